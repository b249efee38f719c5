"""The control center: a web page that shows the whole pipeline and lets its users act, an API, and metrics.

app          the web application: pages, API, metrics and health behind one guard
guard        who may ask: host names, cross-site requests, sessions, sign-in (sessions, password, sign_in)
trail        what was done, by whom: the audit log
desk         what the pages are made from: clients, the flow; host: the services' processes
frame        what every page has around it; elements, parts: what pages are made of
pages/       a module a page, or more
api/         the read-only JSON API, a module a page
metrics      for Prometheus; followed: what only they need

shared       an answer that all open pages share; streaming, upkeep: such answers
letters      what can be done with rejected records
logbook      the end of a log; in_force: the settings, secrets hidden
"""
