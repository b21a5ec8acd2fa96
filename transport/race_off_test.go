//go:build !race

package transport

// hugeMessage is the size of the message in TestHugeMessage.
const hugeMessage = 1 << 30
