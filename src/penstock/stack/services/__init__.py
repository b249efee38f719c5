"""What each service is: version, jars, ports, command, configuration and readiness, each said once, here."""
