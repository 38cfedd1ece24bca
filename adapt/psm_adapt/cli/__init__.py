"""The subcommands of psm-adapt: arguments in, exit codes out. One file each, named in `entry.COMMANDS`."""
