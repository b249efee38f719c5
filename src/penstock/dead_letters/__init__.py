"""What an operator does with dead letters: find, repair, redrive, discard and export them.

pending     those that nothing was done with yet, and the claims on them
repair      repairs a dead letter into a record that keeps the contract
redrive     sends it again, once; original: its first bytes; precedence: its place in the order
export      writes them to a file

The topic itself is `broker.dlq`; what was done with each is in `sink.resolutions`.
"""
