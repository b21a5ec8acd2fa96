package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"hutong/activities/driver"
)

// idleTimeout is how long an idle supervisor stays alive.
const idleTimeout = time.Minute

// Supervise runs the supervisor of the directory args[0], as the main function of its process, and returns
// the exit code. It returns after one idle minute, or soon if the directory already has a supervisor.
//
// The program must call it before anything that takes time or has side effects.
func Supervise(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: supervise <directory of the process driver>")
		return 2
	}

	limitResources()
	if err := supervise(args[0], idleTimeout); err != nil {
		slog.Error("the supervisor failed", "error", err)
		return 1
	}

	return 0
}

func supervise(dir string, idle time.Duration) error {
	lock, err := os.OpenFile(filepath.Join(dir, supervisorLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()

	err = driver.Flock(lock, syscall.LOCK_EX|syscall.LOCK_NB)
	for tries := 0; err == syscall.EWOULDBLOCK; tries++ {
		if tries == 20 {
			return nil // another supervisor is active
		}

		// The holder may also be a client that only checks for a supervisor, for an instant.
		time.Sleep(10 * time.Millisecond)
		err = driver.Flock(lock, syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		return err
	}

	// The previous holder of the lock is dead, so its socket is stale.
	if err := os.Remove(filepath.Join(dir, supervisorSocket)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	address, release, err := socketAddress(dir)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", address)
	release()
	if err != nil {
		return err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)

	s := &supervisor{
		dir: dir, idle: idle, listener: listener,
		locks: driver.LockDir(filepath.Join(dir, lockFolder)), commands: map[string]*command{},
	}
	s.timer = time.AfterFunc(idle, s.exitIfIdle)
	go s.handleSignals()

	return s.serve()
}

// handleSignals lets SIGTERM end the supervisor when no command runs any more. At a shutdown of the machine
// every process gets a SIGTERM, and the ends of the commands must still be recorded. The other signals are
// caught and not ignored, because commands would inherit that they are ignored.
func (s *supervisor) handleSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	for sig := range signals {
		if sig == syscall.SIGTERM {
			s.mu.Lock()
			s.idle = 0
			s.mu.Unlock()
			s.resetIdleTimer()
		}
	}
}

// supervisor starts and tracks commands for its clients.
type supervisor struct {
	dir      string
	locks    driver.LockDir
	listener net.Listener

	mu       sync.Mutex
	commands map[string]*command // those that it tracks
	busy     int                 // connections
	idle     time.Duration
	timer    *time.Timer
	closed   bool
}

func (s *supervisor) serve() error {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			s.mu.Lock()
			closed := s.closed
			s.mu.Unlock()
			if closed {
				return nil
			}

			// For example too many open files. That is temporary, and the commands need the supervisor.
			slog.Error("failed to accept a connection", "error", err)
			time.Sleep(time.Second)
			continue
		}

		s.mu.Lock()
		s.busy++
		closed := s.closed
		s.mu.Unlock()
		if closed {
			_ = conn.Close()
			return nil
		}

		go func() {
			defer s.resetIdleTimer()
			defer func() {
				_ = conn.Close()
				s.mu.Lock()
				s.busy--
				s.mu.Unlock()
			}()
			s.handle(conn)
		}()
	}
}

func (s *supervisor) resetIdleTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Reset(s.idle)
}

// exitIfIdle ends serve. A client that connects at that moment gets no answer, and starts another supervisor.
func (s *supervisor) exitIfIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.busy > 0 || len(s.commands) > 0 {
		return // their end resets the timer
	}
	s.closed = true
	_ = os.Remove(filepath.Join(s.dir, supervisorSocket))
	_ = s.listener.Close()
}

func (s *supervisor) handle(conn net.Conn) {
	var r request
	decoder := json.NewDecoder(conn)
	if err := decoder.Decode(&r); err != nil {
		return
	}

	var answer response
	switch r.Op {
	case opStart:
		err := s.start(r.Name)
		answer.Known = err == nil
		if err != nil {
			answer.Error = err.Error()
			answer.NonRetryable = driver.IsNonRetryable(err)
			answer.NotFound = errors.Is(err, driver.ErrNotFound)
		}
	case opKnows:
		answer.Known = s.command(r.Name) != nil
	case opWait:
		if c := s.command(r.Name); c != nil {
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				_ = decoder.Decode(new(request)) // returns when the client closes the connection
			}()

			select {
			case <-c.ended:
			case <-closed:
				return
			}
			answer.Known = true
		}
	default:
		answer.Error = fmt.Sprintf("this supervisor does not support the operation %q", r.Op)
	}

	_ = json.NewEncoder(conn).Encode(answer)
}

// command returns a tracked command, or nil.
func (s *supervisor) command(name string) *command {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.commands[name]
}

// start starts the command if it was never started.
func (s *supervisor) start(name string) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}

	unlock, err := s.locks.Lock(context.Background(), name)
	if err != nil {
		return err
	}
	defer unlock()

	f := folder(filepath.Join(s.dir, name))
	state, exit, err := f.state()
	if err != nil {
		return err
	}
	if state != driver.Created {
		return exit.startError()
	}

	c := &command{f: f, ended: make(chan struct{})}
	s.mu.Lock()
	s.commands[name] = c
	s.mu.Unlock()

	// The command must stay tracked until its end is recorded.
	untrack := func() {
		s.mu.Lock()
		delete(s.commands, name)
		s.mu.Unlock()
		close(c.ended)
		s.resetIdleTimer()
	}

	started, err := c.start()
	if !started {
		untrack()
		return err
	}

	go func() {
		c.finish()
		untrack()
	}()

	return nil
}
