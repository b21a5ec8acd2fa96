//go:build !race

package transport

// hugeMessage is what TestHugeMessage sends.
const hugeMessage = 1 << 30
