"""Grafana dashboards as code: built from the classes, sent over Grafana's API or written as provisioning files."""
