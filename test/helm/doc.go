// Package helm tests the Helm chart deploy/helm/hutong with Helm's own library: what it renders, and what it
// refuses. It is a module of its own, so that Helm does not become a dependency of Hutong.
package helm
