// Package systemd tests the units of deploy/systemd with systemd's own checks.
package systemd
