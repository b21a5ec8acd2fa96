package bfia

import (
	"net/url"
	"strconv"
	"time"
)

// Parameters of job/create that ask for a reservation.
const (
	queryGeneration = "reserve"
	queryCreated    = "created_at"
	queryPriority   = "priority"
)

// Query returns the request as parameters in the query of job/create: the party then reserves as it creates
// the job, and answers in [JobAccepted.Grant]. The body must stay the document as it was submitted. Other
// implementations, and older versions, ignore the query. A signature covers it, unlike a header.
func (r ReserveRequest) Query() url.Values {
	query := url.Values{
		queryGeneration: {strconv.Itoa(r.Generation)},
		queryCreated:    {r.Created.UTC().Format(time.RFC3339Nano)},
	}
	if r.Priority != 0 {
		query.Set(queryPriority, strconv.Itoa(r.Priority))
	}

	return query
}

// ReserveRequestOf returns the reservation request in the query of a job/create, or nil if there is none. get
// returns the value of a parameter, or "".
func ReserveRequestOf(jobID string, get func(name string) string) (*ReserveRequest, error) {
	if get(queryGeneration) == "" {
		return nil, nil
	}

	request := ReserveRequest{JobID: jobID}
	var err error
	if request.Generation, err = strconv.Atoi(get(queryGeneration)); err != nil {
		return nil, Errorf(CodeBadRequest, "%s: is %.20q, must be a number", queryGeneration,
			get(queryGeneration))
	}
	if request.Created, err = time.Parse(time.RFC3339Nano, get(queryCreated)); err != nil {
		return nil, Errorf(CodeBadRequest, "%s: is %.40q, must be a time such as 2026-11-23T04:12:03.5Z",
			queryCreated, get(queryCreated))
	}
	if priority := get(queryPriority); priority != "" {
		if request.Priority, err = strconv.Atoi(priority); err != nil {
			return nil, Errorf(CodeBadRequest, "%s: is %.20q, must be a number", queryPriority, priority)
		}
	}

	return &request, request.Check()
}

// Check returns an error if a request from outside is not valid.
func (r *ReserveRequest) Check() error {
	if err := CheckID("job_id", r.JobID); err != nil {
		return err
	}
	if err := CheckPriority(r.Priority); err != nil {
		return err
	}

	return CheckGeneration(r.Generation)
}

// CheckGeneration returns an error if the generation of a request from outside is not valid.
func CheckGeneration(generation int) error {
	if generation < 0 || generation > MaxGeneration {
		return Errorf(CodeBadRequest, "generation: %d is not between 0 and %d", generation, MaxGeneration)
	}

	return nil
}
