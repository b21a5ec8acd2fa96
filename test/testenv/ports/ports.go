// Package ports finds ports for the servers of tests, of benchmarks and of chaos, which must be known before
// a server listens, and stay its own while it is down.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The ports that are given: below those that systems hand out by themselves, also to connections that go out,
// and those that the process device gives its runs.
const first, last = 3000, 11999

var (
	mu    sync.Mutex
	taken = map[int]bool{}
)

// Free answers the first of n ports in a row on which nothing listens at an IP address. No port is given
// twice by a process, whether or not somebody listens there by then.
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
	return 0, fmt.Errorf("found no %d free ports in a row between %d and %d at %s", n, first, last, ip)
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

// Address is an address of 127.0.0.1 with a free port.
func Address() (string, error) {
	port, err := Free("127.0.0.1", 1)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}
