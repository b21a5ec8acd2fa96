// Package system tests whole deployments: parties over real HTTP, a real Temporal server, real databases, and
// the reference provider as processes and in containers.
package system
