"""The local stack: the real services, without Docker and without root, all under `settings.home` and on loopback.

`services` defines each service, `catalog` collects them, `launch` starts and stops them, `supervise` keeps them
running, `orphans` ends the orphaned processes of a killed launcher, `doctor` diagnoses problems and suggests commands.
"""
