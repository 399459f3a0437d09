"""`python -m edge_asd_trainer` is `edge-asd`; so torchrun can start it: torchrun ... -m edge_asd_trainer train ..."""

from edge_asd.__main__ import main

if __name__ == "__main__":
    main()
