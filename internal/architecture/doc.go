// Package architecture tests which packages may import which, and rules that hold in all packages.
package architecture
