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
	supervisorLock   = ".supervisor.lock" // held by the one that lives
	supervisorLog    = ".supervisor.log"

	supervisorStart = time.Minute // how long its start may take, on a busy host
	redial          = 5 * time.Millisecond
)

// The supervisor's protocol: one request and one response for each connection,
// both a line of JSON. A new worker may talk to an old supervisor, so it may only grow.
type request struct {
	Op   string `json:"op"`
	Name string `json:"name"`
}

const (
	opStart = "start" // answered when the command was started, or could not be
	opWait  = "wait"  // answered when the run has ended, at once if it is not known
	opKnows = "knows" // answered at once
)

type response struct {
	Known     bool   `json:"known"` // the run is, or until this answer was, under its care
	Error     string `json:"error,omitempty"`
	Permanent bool   `json:"permanent,omitempty"`
	NotFound  bool   `json:"not_found,omitempty"`
}

// A supervisor is the client of the process that Supervise is.
type supervisor struct {
	dir  string
	argv []string

	mu sync.Mutex // so that one of us starts it
}

// start has the command started.
func (s *supervisor) start(ctx context.Context, name string) error {
	for attempt := 0; ; attempt++ {
		conn, err := s.connect(ctx)
		if err != nil {
			return err
		}
		answer, err := ask(ctx, conn, request{Op: opStart, Name: name})
		if err == nil {
			return answer.err()
		}
		// It may have ended itself at that moment. Asking again is safe.
		if ctx.Err() != nil || attempt == 3 {
			return fmt.Errorf("ask the supervisor: %w", err)
		}
	}
}

func (r response) err() error {
	switch {
	case r.NotFound:
		return fmt.Errorf("%w: %s", driver.ErrNotFound, r.Error)
	case r.Permanent:
		return driver.NonRetryable(errors.New(r.Error))
	case r.Error != "":
		return errors.New(r.Error)
	}
	return nil
}

// wait waits until the run has ended, and says whether the supervisor saw that. False at once
// when there is no supervisor or it does not know the run; false also when
// it dies or ctx ends.
func (s *supervisor) wait(ctx context.Context, name string) bool {
	conn, err := s.dial()
	if err != nil {
		return false
	}
	answer, err := ask(ctx, conn, request{Op: opWait, Name: name})
	return err == nil && answer.Known
}

// tracks says whether a supervisor has the run under its care, or lives but cannot tell.
func (s *supervisor) tracks(name string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if conn, err := s.dial(); err == nil {
		if answer, err := ask(ctx, conn, request{Op: opKnows, Name: name}); err == nil {
			return answer.Known
		}
	}
	return s.lives()
}

// lives says whether somebody holds the supervisor's lock.
func (s *supervisor) lives() bool {
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

func (s *supervisor) dial() (net.Conn, error) {
	address, done, err := socketAddress(s.dir)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.DialTimeout("unix", address, 10*time.Second)
}

// socketAddress is the socket's path, by way of an open directory if it is longer than the 107
// bytes that an address holds. Call done when it is bound or connected.
func socketAddress(dir string) (address string, done func(), err error) {
	if address := filepath.Join(dir, supervisorSocket); len(address) < 108 {
		return address, func() {}, nil
	}
	open, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", open.Fd(), supervisorSocket), func() { _ = open.Close() }, nil
}

// connect connects to the supervisor and starts it if need be.
func (s *supervisor) connect(ctx context.Context) (net.Conn, error) {
	if conn, err := s.dial(); err == nil {
		return conn, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, supervisorStart)
	defer cancel()
	var ended chan error // of the one that we started
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
				return nil, fmt.Errorf("the supervisor %q failed, see %s: %w", s.argv, filepath.Join(s.dir, supervisorLog), err)
			}
			// Another one was there. If that one is just ending itself, the next will do.
			ended = nil
			_ = driver.Sleep(ctx, redial)
		case <-time.After(redial):
		case <-ctx.Done():
			return nil, fmt.Errorf("start the supervisor: %w", ctx.Err())
		}
	}
}

// spawn starts a supervisor that does not end with us: in a session of its own, with
// no pipe to us, and with nothing of our environment, which may hold secrets.
func (s *supervisor) spawn() (ended chan error, err error) {
	log, err := os.OpenFile(filepath.Join(s.dir, supervisorLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = processEnviron(nil, s.dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, driver.NonRetryablef("start the supervisor: %w", err)
	}
	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended, nil
}
