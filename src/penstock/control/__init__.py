"""The control center: a web page that shows the whole pipeline and lets its users act, an API, and metrics.

app          the web application: pages, API, metrics and health behind one guard
guard        who may ask: host names, cross-site requests, sessions, sign-in
sessions     the viewers' sessions
trail        what was done, by whom: the audit log
desk         what the pages are made from: clients, the flow, the host's services
elements     the parts of a page
frame        what every page has around it
pages/       a module a page
api/         the read-only JSON API, a module a page
metrics      for Prometheus
"""
