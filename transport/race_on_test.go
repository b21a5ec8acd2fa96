//go:build race

package transport

// hugeMessage is what TestHugeMessage sends: less where the race detector slows all down.
const hugeMessage = 128 << 20
