"""Deployment, seen from the host: which board, what it is given, and the device that does the rest itself.

board + options --first_config--> text of device.toml
bundle, text    --Device--------> a transaction on the device (edge_asd.release)
"""
