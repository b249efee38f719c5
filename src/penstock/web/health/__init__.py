"""The page Health: services, alerts, logs, disk and memory."""
