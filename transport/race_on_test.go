//go:build race

package transport

// hugeMessage is the size of the message in TestHugeMessage. It is small, since the race detector is slow.
const hugeMessage = 128 << 20
