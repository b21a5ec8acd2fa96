package driver

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// ContainerControlPort is the default control port of BFIA, for containers that have an address of their own.
const ContainerControlPort = 10086

// Loopback is the address of containers on the runner's own network.
const Loopback = "127.0.0.1"

// Containers on the runner's network get ports below the kernel's ephemeral range, so that hardly any other
// program takes a port before the container listens on it.
const firstPort, lastPort = 12000, 32000

// FreePort returns a random port of the runner on which no program listens now. Nothing reserves it.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)

		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			return port, l.Close()
		}
	}

	return 0, fmt.Errorf("failed to find a free port: %w", err)
}
