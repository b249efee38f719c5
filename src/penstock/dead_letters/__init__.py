"""Everything about a dead letter: a record that cannot be stored, with its bytes and its reason.

message         a dead letter, and its form as a message; omitted_value: what is left out of one that is too large
topic           read the dead-letter topic, and send records that were rejected to it
resolutions     the table of what was done with each: redriven, superseded or discarded
counts          new dead letters by reason, for metrics
failed_entries  the share of a run's entries that become dead letters, and when it is too large

What an operator does with them:

pending         those that nothing was done with yet, and the claims on them
repair          repairs a dead letter into a record that keeps the contract
redrive         sends it again, once; original: its first bytes; precedence: its place in the order
export          writes them to a file

A record is a `contract.batch.Reject` until it is sent to the topic. The page is `web.rejected`.
"""
