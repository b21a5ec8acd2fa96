// Package ports finds free ports for servers of tests, benchmarks and chaos. A port must be known before its
// server listens, and must not be taken by others while the server is down.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The range of ports. It is below the ephemeral ports of the system, and below those that the process driver
// assigns.
const first, last = 3000, 11999

var (
	mu    sync.Mutex
	taken = map[int]bool{}
)

// Free returns the first of n consecutive free ports at an IP address. A process gets no port twice, whether
// or not something listens on it.
func Free(ip string, n int) (int, error) {
	mu.Lock()
	defer mu.Unlock()
	for range 1000 {
		port := first + rand.IntN(last-first+2-n)
		if !isFree(ip, port, n) {
			continue
		}
		for i := range n {
			taken[port+i] = true
		}
		return port, nil
	}
	return 0, fmt.Errorf("failed to find %d consecutive free ports between %d and %d at %s",
		n, first, last, ip)
}

func isFree(ip string, port, n int) bool {
	for i := port; i < port+n; i++ {
		if taken[i] {
			return false
		}
		l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(i)))
		if err != nil || l.Close() != nil {
			return false
		}
	}
	return true
}

// Address returns an address on 127.0.0.1 with a free port.
func Address() (string, error) {
	port, err := Free("127.0.0.1", 1)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}
