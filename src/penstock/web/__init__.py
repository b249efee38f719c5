"""The control center: web pages to monitor and operate the pipeline, a JSON API, and metrics.

A folder per page: page (what it shows), api (the same as JSON), acts (what its operator does), and what only it needs.

app          the web application: pages, API, metrics and health checks behind one security middleware
guard        security middleware: host names, cross-site requests, sessions, sign-in (sessions, password, sign_in)
trail        audit log: who did what
desk         what pages and API share: clients, the latest snapshot; host: the services' processes
frame        page layout; elements, parts: building blocks of pages
api          read-only JSON API; readiness: health checks; metrics: Prometheus endpoint, fed by followed
shared       cache of a query's result, shared by all open pages
logbook      the tail of a log; in_force: effective settings, secrets hidden
"""
