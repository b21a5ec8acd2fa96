package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"hutong/activities/driver"
)

const (
	supervisorSocket = ".supervisor.sock"
	supervisorLock   = ".supervisor.lock" // held by the active supervisor
	supervisorLog    = ".supervisor.log"

	supervisorStartTimeout = time.Minute // generous, for a busy machine
	redialDelay            = 5 * time.Millisecond
)

// The supervisor's protocol is one request and one response for each connection, each a line of JSON. A new
// worker may talk to an old supervisor, so the protocol must stay backward compatible.
type request struct {
	Op   string `json:"op"`
	Name string `json:"name"`
}

const (
	opStart = "start" // answered when the command was started, or could not be
	opWait  = "wait"  // answered when the container has ended, at once if it is not tracked
	opKnows = "knows" // answered at once
)

type response struct {
	Known        bool   `json:"known"` // the supervisor tracks the container, or did until this response
	Error        string `json:"error,omitempty"`
	NonRetryable bool   `json:"non_retryable,omitempty"`
	NotFound     bool   `json:"not_found,omitempty"`
}

// supervisorClient is the client of the process that runs Supervise.
type supervisorClient struct {
	dir  string
	argv []string

	mu sync.Mutex // one goroutine at a time starts the supervisor
}

// start starts the container's command.
func (s *supervisorClient) start(ctx context.Context, name string) error {
	for attempt := 0; ; attempt++ {
		conn, err := s.connect(ctx)
		if err != nil {
			return err
		}

		answer, err := ask(ctx, conn, request{Op: opStart, Name: name})
		if err == nil {
			return answer.err()
		}

		// The supervisor may have exited at that moment. The request is idempotent.
		if ctx.Err() != nil || attempt == 3 {
			return fmt.Errorf("failed to call the supervisor: %w", err)
		}
	}
}

func (r response) err() error {
	switch {
	case r.NotFound:
		return fmt.Errorf("%w: %s", driver.ErrNotFound, r.Error)
	case r.NonRetryable:
		return driver.NonRetryable(errors.New(r.Error))
	case r.Error != "":
		return errors.New(r.Error)
	}

	return nil
}

// wait waits until the container has ended, and reports whether the supervisor observed that. Without a
// supervisor that tracks the container, it returns false at once. If the supervisor dies or ctx ends, it
// returns false then.
func (s *supervisorClient) wait(ctx context.Context, name string) bool {
	conn, err := s.dial()
	if err != nil {
		return false
	}
	answer, err := ask(ctx, conn, request{Op: opWait, Name: name})

	return err == nil && answer.Known
}

// tracks reports whether a supervisor tracks the container, or is alive but does not answer.
func (s *supervisorClient) tracks(name string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	if conn, err := s.dial(); err == nil {
		if answer, err := ask(ctx, conn, request{Op: opKnows, Name: name}); err == nil {
			return answer.Known
		}
	}

	return s.alive()
}

// alive reports whether a process holds the supervisor's lock.
func (s *supervisorClient) alive() bool {
	lock, err := os.OpenFile(filepath.Join(s.dir, supervisorLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return true
	}
	defer func() { _ = lock.Close() }()

	return driver.Flock(lock, syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

func ask(ctx context.Context, conn net.Conn, r request) (answer response, err error) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return answer, err
	}
	err = json.NewDecoder(conn).Decode(&answer)

	return answer, err
}

func (s *supervisorClient) dial() (net.Conn, error) {
	address, release, err := socketAddress(s.dir)
	if err != nil {
		return nil, err
	}
	defer release()

	return net.DialTimeout("unix", address, 10*time.Second)
}

// socketAddress returns the socket's path. A path longer than the 107 bytes of a socket address is replaced
// by one through an open directory. Call release when the socket is bound or connected.
func socketAddress(dir string) (address string, release func(), err error) {
	if address := filepath.Join(dir, supervisorSocket); len(address) < 108 {
		return address, func() {}, nil
	}

	open, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	address = fmt.Sprintf("/proc/self/fd/%d/%s", open.Fd(), supervisorSocket)

	return address, func() { _ = open.Close() }, nil
}

// connect connects to the supervisor, and starts it if necessary.
func (s *supervisorClient) connect(ctx context.Context) (net.Conn, error) {
	if conn, err := s.dial(); err == nil {
		return conn, nil
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, supervisorStartTimeout)
	defer cancel()

	var ended chan error // of the process that this call started
	for {
		conn, err := s.dial()
		if err == nil {
			return conn, nil
		}

		if ended == nil {
			if ended, err = s.spawn(); err != nil {
				return nil, err
			}
		}

		select {
		case err := <-ended:
			if err != nil {
				return nil, fmt.Errorf("the supervisor %q failed, see %s: %w",
					s.argv, filepath.Join(s.dir, supervisorLog), err)
			}

			// Another supervisor was active. If that one is just exiting, the next one replaces it.
			ended = nil
			_ = driver.Sleep(ctx, redialDelay)
		case <-time.After(redialDelay):
		case <-ctx.Done():
			return nil, fmt.Errorf("failed to start the supervisor: %w", ctx.Err())
		}
	}
}

// spawn starts a supervisor that outlives this process. It has a session of its own, no pipe to this process,
// and none of its environment, which may hold secrets.
func (s *supervisorClient) spawn() (ended chan error, err error) {
	log, err := os.OpenFile(filepath.Join(s.dir, supervisorLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = minimalEnviron(nil, s.dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, driver.NonRetryablef("failed to start the supervisor: %w", err)
	}

	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	return ended, nil
}
