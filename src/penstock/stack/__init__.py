"""The local stack: the real services, without Docker and without root, all under `settings.home` and on loopback.

`services` says what each service is, `catalog` puts them together, `launch` starts and stops them, `supervise` keeps
them running, `orphans` ends what a killed launcher left behind, `doctor` says what is wrong and what to type.
"""
