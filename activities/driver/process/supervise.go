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

// idleTime is how long a supervisor with nothing to do stays.
const idleTime = time.Minute

// Supervise is the main function of the supervisor of a Process directory, args[0]. It returns
// the program's exit code: when it has been idle for a minute, or soon when the
// directory has a supervisor already.
//
// It must be called before anything that takes time or leaves traces.
func Supervise(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: supervise <directory of the process runner>")
		return 2
	}
	if err := supervise(args[0], idleTime); err != nil {
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
			return nil // there is one
		}
		// Or somebody who only looks whether there is one, which takes an instant.
		time.Sleep(10 * time.Millisecond)
		err = driver.Flock(lock, syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		return err
	}
	// Whoever held the lock before is dead, so what is left of its socket is, too.
	if err := os.Remove(filepath.Join(dir, supervisorSocket)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	address, done, err := socketAddress(dir)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", address)
	done()
	if err != nil {
		return err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	s := &server{
		dir: dir, idle: idle, listener: listener,
		locks: driver.LockDir(filepath.Join(dir, lockFolder)), runs: map[string]*running{},
	}
	s.timer = time.AfterFunc(idle, s.endIfIdle)
	go s.heedSignals()
	return s.serve()
}

// heedSignals ends the supervisor by SIGTERM when no command runs any more: when the machine goes
// down everybody gets one, and the commands' ends are still to be written. The
// others are caught and not ignored, which the commands would inherit.
func (s *server) heedSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	for sig := range signals {
		if sig == syscall.SIGTERM {
			s.mu.Lock()
			s.idle = 0
			s.mu.Unlock()
			s.rest()
		}
	}
}

// A server is the supervisor.
type server struct {
	dir      string
	locks    driver.LockDir
	listener net.Listener

	mu     sync.Mutex
	runs   map[string]*running // those under our care
	busy   int                 // connections
	idle   time.Duration
	timer  *time.Timer
	closed bool
}

func (s *server) serve() error {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			s.mu.Lock()
			closed := s.closed
			s.mu.Unlock()
			if closed {
				return nil
			}
			// Too many open files, say. That passes, and the runs need us.
			slog.Error("cannot accept a connection", "error", err)
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
			defer s.rest()
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

// rest begins a new period of idleness.
func (s *server) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Reset(s.idle)
}

// endIfIdle ends serve. A client that connects at that moment gets no answer, and
// starts another supervisor.
func (s *server) endIfIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy > 0 || len(s.runs) > 0 {
		return // what ends later begins a new period
	}
	s.closed = true
	_ = os.Remove(filepath.Join(s.dir, supervisorSocket))
	_ = s.listener.Close()
}

func (s *server) handle(conn net.Conn) {
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
			answer.Error, answer.Permanent, answer.NotFound = err.Error(), driver.IsNonRetryable(err), errors.Is(err, driver.ErrNotFound)
		}
	case opKnows:
		answer.Known = s.known(r.Name) != nil
	case opWait:
		if run := s.known(r.Name); run != nil {
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_ = decoder.Decode(new(request)) // ends when the client closes
			}()
			select {
			case <-run.ended:
			case <-gone:
				return
			}
			answer.Known = true
		}
	default:
		answer.Error = fmt.Sprintf("this supervisor does not know %q", r.Op)
	}
	_ = json.NewEncoder(conn).Encode(answer)
}

func (s *server) known(name string) *running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[name]
}

// start starts the command if it never was.
func (s *server) start(name string) error {
	if err := driver.CheckName(name); err != nil {
		return err
	}
	unlock, err := s.locks.Lock(context.Background(), name)
	if err != nil {
		return err
	}
	defer unlock()
	f := folder(filepath.Join(s.dir, name))
	state, exit, err := f.look()
	if err != nil {
		return err
	}
	if state != driver.Created {
		return exit.startError()
	}
	run := &running{f: f, ended: make(chan struct{})}
	s.mu.Lock()
	s.runs[name] = run
	s.mu.Unlock()
	// It must not be forgotten before its end is written.
	forget := func() {
		s.mu.Lock()
		delete(s.runs, name)
		s.mu.Unlock()
		close(run.ended)
		s.rest()
	}
	started, err := run.start()
	if !started {
		forget()
		return err
	}
	go func() {
		run.finish()
		forget()
	}()
	return nil
}
