package api

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"hutong/bfia"
	"hutong/internal/limits"
)

const (
	// submissionWait bounds how long a client's job waits for its creation to start. It is shorter than
	// clients' timeouts.
	submissionWait = 20 * time.Second
	// submissionGoal is how long a submission may take, by what the last ones took. Clients that would wait
	// longer are refused, with the time after which to submit again.
	submissionGoal = 800 * time.Millisecond
	// firstTakes is what a creation takes before one was measured.
	firstTakes = 200 * time.Millisecond
)

// waitsEach is how many submissions of one client that can't repeat them may be here, for each that is
// created at the same time.
const waitsEach = 8

// submissions bounds the jobs that are created for clients at the same time. More would slow each other down
// until creations take longer than a scheduler waits for its parties. Some more wait, in order: as many as
// have their answer in time, and always one for each that is being created. If these places are taken, each
// client has a fair share of them, so that one that floods the party does not keep the others out.
type submissions struct {
	slots *semaphore.Weighted
	atMax int

	mu      sync.Mutex
	waiting int
	takes   time.Duration  // a creation, smoothed
	open    map[string]int // submissions that wait or are being created, by client
}

func newSubmissions(atMax int) *submissions {
	return &submissions{slots: semaphore.NewWeighted(int64(atMax)), atMax: atMax, takes: firstTakes,
		open: map[string]int{}}
}

// submissionsAtOnce is how many jobs this machine creates for clients at the same time.
func submissionsAtOnce() int { return max(4, 2*runtime.NumCPU()) }

// enter waits until a job of a client may be created; the caller calls done when it is. If too many jobs wait
// already and the client has its share of them, it returns CodeTooMany at once. A client that waits, since it
// can't repeat its request, has a larger share.
func (s *submissions) enter(ctx context.Context, node, client string, waits bool) (done func(), err error) {
	s.mu.Lock()
	if s.isFull() && (s.open[client] >= s.share(client, waits) || s.ahead() > submissionWait) {
		busy := &limits.Exceeded{After: max(time.Second, s.ahead()),
			What: fmt.Sprintf("%s creates as many jobs as it can, and %d more wait", node, s.waiting)}
		s.mu.Unlock()
		return nil, tooMany(busy)
	}
	s.waiting++
	s.open[client]++
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, submissionWait)
	defer cancel()
	err = s.slots.Acquire(ctx, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	if err != nil {
		s.forget(client)
		return nil, bfia.Wrap(bfia.CodeUnavailable, err,
			"%s has more submissions than it can create within %s; submit the job again later", node,
			submissionWait)
	}
	began := time.Now()
	return func() { s.leave(client, time.Since(began)) }, nil
}

// leave ends a creation, which took some time.
func (s *submissions) leave(client string, took time.Duration) {
	s.slots.Release(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(client)
	s.takes += (took - s.takes) / 8
}

// forget counts one submission of a client less. The caller holds the lock.
func (s *submissions) forget(client string) {
	if s.open[client]--; s.open[client] <= 0 {
		delete(s.open, client)
	}
}

// isFull returns whether a further job would have its answer too late. The caller holds the lock.
func (s *submissions) isFull() bool {
	return s.waiting >= s.atMax && s.ahead()+s.takes > submissionGoal
}

// share returns how many submissions a client may have here while too many wait: at least one, and together
// what has its answer in time, however many wait. The caller holds the lock.
func (s *submissions) share(client string, waits bool) int {
	if waits {
		return waitsEach * s.atMax
	}
	clients := len(s.open)
	if s.open[client] == 0 {
		clients++
	}
	inTime := int(int64(s.atMax) * int64(submissionGoal) / int64(max(s.takes, time.Millisecond)))
	return max(1, max(2*s.atMax, inTime)/clients)
}

// ahead returns how long a job would wait for those that wait now.
func (s *submissions) ahead() time.Duration {
	return s.takes * time.Duration(s.waiting+1) / time.Duration(s.atMax)
}
