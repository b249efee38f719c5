"""Docker Compose: initialization and health of the containers, requirements of the host.

On the user's machine, with the standard library only:

commands    `compose init` and `doctor --compose`, without any installation
environment .env with generated secrets
doctor      checks of Docker, Compose, memory, processor, user, ports and .env, with hints

In containers:

preflight   secrets-init: checks before other containers start, and each service's secrets as files
airflow_files  airflow-init: Airflow's login, and the password of its database
prepare     pipeline-init: the pipeline's role in Cassandra, the registry's compatibility level
healthy     health checks
"""
