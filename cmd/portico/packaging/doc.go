// Package packaging tries what goes with the server to a machine that runs it, with the
// programs of that machine: its units with systemd, the examples of proxies with Caddy, nginx
// and HAProxy. Debian has them all; make packaging runs it, as root where a program wants it.
package packaging
