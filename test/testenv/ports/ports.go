// Package ports finds free ports for servers of tests, benchmarks and chaos. A port must be known before its
// server listens, and must not be taken by others while the server is down.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// The range of ports. It is below the ephemeral ports of the system, and below those that the process driver
// assigns.
const first, last = 3000, 11999

// blockSize is the number of ports that a process reserves at once. Tests of several packages run at the same
// time, as processes that know nothing of each other, and most ports are used seconds after they were found.
const blockSize = 100

// documented are the ports that hutong dev and hutong demo use by default.
var documented = []int{7233, 8233, 9380, 9381, 9382, 9383, 9384, 9480, 9481, 9482, 9483, 9484}

var (
	mu    sync.Mutex
	taken = map[int]bool{}
	// blocks are the reserved blocks by their numbers. The locks end with the process.
	blocks = map[int]*os.File{}
)

func init() {
	for _, port := range documented {
		taken[port] = true
	}
}

// Free returns the first of n consecutive free ports at an IP address. No port is returned twice, to this
// process or to another one, whether or not something listens on it, as long as the process that has it runs.
func Free(ip string, n int) (int, error) {
	if n < 1 || n > blockSize {
		return 0, fmt.Errorf("failed to find %d consecutive ports: must be between 1 and %d", n, blockSize)
	}
	mu.Lock()
	defer mu.Unlock()
	for number := range blocks {
		if port, ok := freeIn(number, ip, n); ok {
			return port, nil
		}
	}
	for {
		number, err := reserveBlock()
		if err != nil {
			return 0, fmt.Errorf("failed to find %d consecutive free ports between %d and %d at %s: %w",
				n, first, last, ip, err)
		}
		if port, ok := freeIn(number, ip, n); ok {
			return port, nil
		}
	}
}

// freeIn takes n consecutive free ports of a reserved block.
func freeIn(number int, ip string, n int) (port int, ok bool) {
	for _, offset := range rand.Perm(blockSize + 1 - n) {
		port := first + number*blockSize + offset
		if !isFree(ip, port, n) {
			continue
		}
		for i := range n {
			taken[port+i] = true
		}
		return port, true
	}
	return 0, false
}

// reserveBlock reserves a block of ports that no running process has.
func reserveBlock() (int, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("hutong-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	for _, number := range rand.Perm((last + 1 - first) / blockSize) {
		if blocks[number] != nil {
			continue
		}
		file, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(number)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return 0, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			blocks[number] = file
			return number, nil
		}
		if err := file.Close(); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("all are reserved by processes that run")
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
