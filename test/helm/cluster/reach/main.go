// Reach tries to connect to each of its arguments, host:port, at the same time, and prints which of them it
// reaches. It is the program of pods that try what the network policies let them reach.
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
