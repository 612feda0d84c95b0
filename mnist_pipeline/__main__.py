"""`python -m mnist_pipeline`: the command line."""

from mnist_pipeline.cli.app import main

if __name__ == "__main__":
    main()
