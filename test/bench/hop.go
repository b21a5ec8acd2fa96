package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"hutong/test/testenv/ports"
)

// hops are two servers: the first passes each message to the second, which keeps it in memory.
type hops struct{ first, second string }

func (h hops) send(ctx context.Context, session string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.first+"/"+session,
		bytes.NewReader(body))
	if err != nil {
		return err
	}
	_, err = answerOf(request)
	return err
}

func (h hops) receive(ctx context.Context, session string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.second+"/"+session, nil)
	if err != nil {
		return 0, err
	}
	body, err := answerOf(request)
	return len(body), err
}

// hopCommand is the first argument of this program when it is one of the servers of hops. Its own address and
// that of the next server, or "", follow.
const hopCommand = "hop"

// startHops starts the servers of hops. The caller must call stop, even after an error.
func startHops(ctx context.Context) (h hops, stop func(), err error) {
	var started []*exec.Cmd
	stop = func() {
		for _, cmd := range started {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	program, err := os.Executable()
	if err != nil {
		return h, stop, fmt.Errorf("failed to find this program: %w", err)
	}
	next := ""
	for range 2 {
		address, err := ports.Address()
		if err != nil {
			return h, stop, err
		}
		cmd := exec.Command(program, hopCommand, address, next)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return h, stop, fmt.Errorf("failed to start a hop: %w", err)
		}
		started = append(started, cmd)
		if err := awaitListener(ctx, address); err != nil {
			return h, stop, err
		}
		h.first, h.second = "http://"+address, h.first
		next = h.first
	}
	return h, stop, nil
}

// awaitListener waits until a server accepts connections.
func awaitListener(ctx context.Context, address string) error {
	return await(ctx, "a server at "+address, func() error {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// serveHop serves one hop until the process ends: it passes messages to the next server, or keeps them.
func serveHop(address, next string) error {
	var handler http.Handler = newKeeper()
	if next != "" {
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := readBody(r)
			if err == nil {
				err = hops{first: next}.send(r.Context(), r.URL.Path[1:], body)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
			}
		})
	}
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}

// keeper keeps the messages of each session until they are fetched.
type keeper struct {
	mu   sync.Mutex
	kept map[string][][]byte
}

func newKeeper() *keeper { return &keeper{kept: map[string][][]byte{}} }

func (k *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session := r.URL.Path
	if r.Method == http.MethodPost {
		body, err := readBody(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.kept[session] = append(k.kept[session], body)
		return
	}

	k.mu.Lock()
	queue := k.kept[session]
	if len(queue) == 0 {
		k.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	k.kept[session] = queue[1:]
	k.mu.Unlock()
	_, _ = w.Write(queue[0])
}

// readBody reads a body of known length without copies.
func readBody(r *http.Request) ([]byte, error) {
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}
