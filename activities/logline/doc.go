// Package logline reads lines of containers' logs: it finds their levels and resolves what a terminal would
// overwrite, such as progress bars. It does no I/O.
package logline
