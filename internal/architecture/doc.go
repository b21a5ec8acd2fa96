// Package architecture tests which packages may import which.
package architecture
