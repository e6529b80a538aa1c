"""What people would use instead, each built as its documentation advises: `python -m bench.peers --help`."""
