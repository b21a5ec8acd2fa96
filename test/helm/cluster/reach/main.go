// Reach is the program of pods that try what the network policies let them reach.
//
//	reach HOST:PORT...  tries to connect to all at the same time, and prints which it reaches
//	reach listen :PORT  accepts connections
package main

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// timeout leaves time for three packets: a first one may be lost while the cluster learns of the pod.
const timeout = 6 * time.Second

func main() {
	if len(os.Args) == 3 && os.Args[1] == "listen" {
		fmt.Fprintln(os.Stderr, "reach:", listen(os.Args[2]))
		os.Exit(1)
	}

	var tries sync.WaitGroup
	for _, address := range os.Args[1:] {
		tries.Go(func() {
			connection, err := net.DialTimeout("tcp", address, timeout)
			if err != nil {
				fmt.Printf("%s refused\n", address)
				return
			}
			_ = connection.Close()
			fmt.Printf("%s reached\n", address)
		})
	}
	tries.Wait()
}

// listen accepts connections until it fails.
func listen(address string) error {
	listener, err := net.Listen("tcp", address)
	for err == nil {
		var connection net.Conn
		if connection, err = listener.Accept(); err == nil {
			_ = connection.Close()
		}
	}

	return err
}
