package channel

import (
	"context"
	"sync"
)

// Pipe returns two connected ends within one process, for tests of algorithms. It encodes messages as a
// [Link] does.
func Pipe() (*PipeEnd, *PipeEnd) {
	p := &pipe{messages: map[string]chan []byte{}}
	return &PipeEnd{p, "a", "b"}, &PipeEnd{p, "b", "a"}
}

type pipe struct {
	mu       sync.Mutex
	messages map[string]chan []byte
}

// PipeEnd is one end of a [Pipe].
type PipeEnd struct {
	pipe     *pipe
	from, to string
}

func (p *pipe) queue(name string) chan []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.messages[name] == nil {
		p.messages[name] = make(chan []byte, 1024)
	}
	return p.messages[name]
}

// Send sends a message to the other end, like [Link.Send].
func (e *PipeEnd) Send(ctx context.Context, step string, head any, body []byte) error {
	m, err := encodeMessage(head, body)
	if err != nil {
		return err
	}
	select {
	case e.pipe.queue(e.to + step) <- m:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Receive receives a message from the other end, like [Link.Receive].
func (e *PipeEnd) Receive(ctx context.Context, step string, head any) ([]byte, error) {
	select {
	case m := <-e.pipe.queue(e.from + step):
		return decodeMessage(m, head)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
