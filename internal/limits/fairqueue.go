package limits

import "container/list"

// fairQueue holds the messages of one caller that wait for its rate. It is a fair queue: first in, first out
// within a session, and round robin among the sessions. So a session with many messages delays a session
// with few by one message each time. Limiter.mu guards it.
type fairQueue struct {
	sessions map[string]*session
	order    list.List // of *session, in the order in which each is served next
	length   int
	// scheduled is set while a timer will serve the queue.
	scheduled bool
}

// session holds the waiting messages of a session. One without messages is in no queue.
type session struct {
	id       string
	messages list.List // of *message, in the order of arrival
	place    *list.Element
}

// message is one that waits.
type message struct {
	session  *session
	place    *list.Element // nil after it has left the queue
	admitted chan struct{} // closed when it may proceed
}

// push adds a message of a session. It returns nil if the queue has no place for it.
//
// A session may hold no more places than it leaves free. So one that sends more than it may never takes the
// places of the others, and no session needs a bound of its own.
func (q *fairQueue) push(id string, places int) *message {
	s := q.sessions[id]
	own := 0
	if s != nil {
		own = s.messages.Len()
	}
	if own >= places-q.length {
		return nil
	}
	if s == nil {
		if q.sessions == nil {
			q.sessions = map[string]*session{}
		}
		s = &session{id: id}
		s.place = q.order.PushBack(s)
		q.sessions[id] = s
	}
	m := &message{session: s, admitted: make(chan struct{})}
	m.place = s.messages.PushBack(m)
	q.length++
	return m
}

// pop removes the message that is served next. The queue must not be empty.
func (q *fairQueue) pop() *message {
	s := q.order.Front().Value.(*session)
	m := s.messages.Front().Value.(*message)
	q.order.MoveToBack(s.place)
	q.remove(m)
	return m
}

// remove removes a message from anywhere in the queue. It reports whether the message was in it.
func (q *fairQueue) remove(m *message) bool {
	if m.place == nil {
		return false
	}
	s := m.session
	s.messages.Remove(m.place)
	m.place = nil
	q.length--
	if s.messages.Len() == 0 {
		q.order.Remove(s.place)
		delete(q.sessions, s.id)
	}
	return true
}
