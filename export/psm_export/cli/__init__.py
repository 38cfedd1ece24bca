"""psm-export's command line: arguments in, exit codes out. One file per subcommand."""
