"""Docker Compose: what the containers need beside their images, and what a machine needs for them.

healthy     whether something in a container is well: what health checks run, with the standard library alone
passwords   Airflow's user, written where its simple sign-in looks
prepare     what the pipeline needs once: its role in Cassandra, the registry's compatibility
environment .env, with secrets of one's own
checkup     Docker, Compose, memory, ports, .env: `doctor --compose`
"""
