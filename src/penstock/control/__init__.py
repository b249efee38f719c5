"""The control center: web pages to monitor and operate the pipeline, a JSON API, and metrics.

app          the web application: pages, API, metrics and health checks behind one security middleware
guard        security middleware: host names, cross-site requests, sessions, sign-in (sessions, password, sign_in)
trail        audit log: who did what
desk         what pages and API share: clients, the latest snapshot; host: the services' processes
frame        page layout; elements, parts: building blocks of pages
pages/       one or more modules per page
api/         read-only JSON API, one module per page
metrics      Prometheus endpoint; followed: the poller for what only metrics need

shared       cache of a query's result, shared by all open pages; streaming, upkeep: cached services
letters      actions on rejected records
logbook      the tail of a log; in_force: effective settings, secrets hidden
"""
