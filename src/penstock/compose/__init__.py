"""Docker Compose: what the containers need beside their images, and what a machine needs for them.

On the user's machine, with the standard library alone:

commands    `compose init` and `doctor --compose`, without anything installed
environment .env, with secrets of one's own
doctor      Docker, Compose, memory, processor, user, ports, .env: what is missing and what to type

In containers:

preflight   secrets-init: checks before anything starts, and each service's secrets as files
airflow     airflow-init: Airflow's sign-in, and the password of its database
prepare     pipeline-init: the pipeline's role in Cassandra, the registry's compatibility
healthy     health checks
"""
