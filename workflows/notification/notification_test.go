package notification

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/notification"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

func registerActivity(env *testsuite.TestWorkflowEnvironment, name string, f any) {
	env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
}

// TestWatch checks that each delivery is started once although the look that returns it may be repeated, that
// the next look learns what has started, and that the workflow continues as a new run.
func TestWatch(t *testing.T) {
	env := flowtest.NewEnv()
	var inputs []notification.FindNotificationsInput
	registerActivity(env, "FindNotifications", func(_ context.Context,
		in notification.FindNotificationsInput) (notification.FoundNotifications, error) {
		inputs = append(inputs, in)
		if len(inputs) == 1 {
			return notification.FoundNotifications{}, errors.New("the database does not answer")
		}
		n := len(inputs) - len(inputs)%2 // each delivery is found twice, as if its start was not recorded
		return notification.FoundNotifications{Deliveries: []notification.Delivery{
			{ID: fmt.Sprintf("n%d", n), Round: 1}}}, nil
	})
	delivered := map[string]int{}
	env.RegisterWorkflowWithOptions(func(_ workflow.Context, d notification.Delivery) error {
		delivered[d.ID]++
		return nil
	}, workflow.RegisterOptions{Name: workflows.NotificationType})
	env.ExecuteWorkflow(Watch, []notification.Delivery{{ID: "before", Round: 2}})

	var next *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &next)
	require.Len(t, inputs, maxRounds+1)
	require.Equal(t, []notification.Delivery{{ID: "before", Round: 2}}, inputs[0].Started)
	require.Equal(t, inputs[0], inputs[1], "the repetition has the same input")
	require.Equal(t, []notification.Delivery{{ID: "n2", Round: 1}}, inputs[2].Started)
	require.Equal(t, inputs[2], inputs[3], "a duplicate has started too")
	require.Len(t, delivered, maxRounds/2)
	for id, n := range delivered {
		require.Equal(t, 1, n, id)
	}
	var started []notification.Delivery
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(next.Input, &started))
	require.Equal(t, []notification.Delivery{{ID: "n100", Round: 1}}, started)
}

// delivery runs the workflow of one delivery.
func delivery(t *testing.T, deliver func(n int) error) (tries int, took time.Duration, givenUp []string,
	err error) {
	t.Helper()
	env := flowtest.NewEnv()
	registerActivity(env, "DeliverNotification", func(context.Context, notification.Delivery) error {
		tries++
		return deliver(tries)
	})
	recordings := 0
	registerActivity(env, "GiveUpNotification", func(_ context.Context,
		in notification.GiveUpNotificationInput) error {
		if recordings++; recordings < 3 {
			return errors.New("the database does not answer")
		}
		givenUp = append(givenUp, in.Reason)
		return nil
	})
	began := env.Now()
	env.ExecuteWorkflow(Deliver, notification.Delivery{ID: "n", Round: 1})
	return tries, env.Now().Sub(began), givenUp, env.GetWorkflowError()
}

func TestDeliver(t *testing.T) {
	tries, took, givenUp, err := delivery(t, func(n int) error {
		if n < 5 {
			return errors.New("HTTP 500")
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 5, tries)
	require.Less(t, took, time.Minute)
	require.Empty(t, givenUp)
}

// TestDeliverGivesUp checks that a receiver is tried again and again, and given up at once if it wants no
// more.
func TestDeliverGivesUp(t *testing.T) {
	tries, took, givenUp, err := delivery(t, func(int) error { return errors.New("HTTP 500") })
	require.Error(t, err)
	require.Equal(t, []string{"HTTP 500"}, givenUp)
	require.Equal(t, 10, tries, "the test environment allows no more")
	require.Greater(t, took, 15*time.Minute, "the pauses grow")

	tries, _, givenUp, err = delivery(t, func(int) error {
		return temporal.NewNonRetryableApplicationError("410 Gone", activities.FailureRefused, nil)
	})
	require.Error(t, err)
	require.Equal(t, 1, tries)
	require.Equal(t, []string{"410 Gone"}, givenUp)
}
