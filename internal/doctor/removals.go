package doctor

import (
	"context"
	"fmt"
	"strings"

	"hutong/internal/party"
)

// maxRemovals is the number of jobs that could not be removed of which the doctor shows the reasons.
const maxRemovals = 5

// checkRemovals reports expired jobs that housekeeping could not remove.
func checkRemovals(ctx context.Context, cfg *party.Config) Check {
	db, refused := openDatabase(ctx, cfg)
	if refused != nil {
		return *refused
	}
	defer func() { _ = db.Close() }()

	jobs, err := db.RemovalFailures(ctx, maxRemovals+1)
	if err != nil {
		return failed(fixDatabase, "failed to read the jobs that could not be removed: %v", err)
	}
	if len(jobs) == 0 {
		return ok("housekeeping could remove all jobs whose retention is over")
	}

	var found []string
	for i, j := range jobs {
		if i == maxRemovals {
			found = append(found, "and more")
			break
		}
		found = append(found, fmt.Sprintf("job %s: %s", j.JobID, j.RemovalFailure))
	}

	return warning("make the party's user the owner of these folders (sudo chown -R USER FOLDER); housekeeping "+
		"tries again every ten minutes",
		"housekeeping could not remove jobs whose retention is over: %s", strings.Join(found, "; "))
}
