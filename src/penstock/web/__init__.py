"""The control center: web pages to monitor and operate the pipeline, a JSON API, and metrics.

A folder per page: page (what it shows), api (the same as JSON), actions (what an operator can do), and its own modules.

app          the web application: pages, API, metrics and health checks behind one security middleware
security     security middleware: host names, cross-site requests, sessions, sign-in (sessions, password, sign_in)
audit_log    who did what
app_context  what pages and API share: clients, the latest snapshot; host: the services' processes
page_layout  what every page has; elements, components: building blocks of pages
api          read-only JSON API; readiness: health checks; metrics: Prometheus endpoint, fed by metrics_poller
query_cache  a query's result, shared by all open pages
logbook      the tail of a log; effective_settings: all settings, secrets hidden
"""
