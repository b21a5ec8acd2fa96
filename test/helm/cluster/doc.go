// Package cluster installs two parties by the Helm chart on the tests' cluster with real kubelets, and
// upgrades them while jobs run. It is a module of its own, which builds Helm's program too.
package cluster
