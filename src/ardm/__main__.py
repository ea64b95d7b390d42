"""`python -m ardm`, and what `accelerate launch -m ardm` runs."""

from ardm.cli import main

if __name__ == "__main__":
    main()
