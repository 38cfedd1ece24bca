"""`python -m psm_adapt`, which is psm-adapt: what torchrun starts."""

from psm_adapt.cli.entry import main

if __name__ == "__main__":
    main()
