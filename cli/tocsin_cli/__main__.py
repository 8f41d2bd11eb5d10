"""`python -m tocsin_cli`: the same as the `tocsin` command, for supervisors that know their interpreter."""

from tocsin_cli.main import main

if __name__ == "__main__":
    main()
