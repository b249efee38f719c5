"""Definitions of all services: version, jars, ports, command, configuration and readiness."""
