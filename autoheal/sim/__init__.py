"""A simulated Swarm behind the same ports as the real one: seeded, with a clock of its own.

What it imitates, after swarmkit's source and after what was seen of a real Swarm:

* services, tasks and nodes in Docker's own JSON, each with a version; compare-and-swap;
  PreviousSpec;
* slots and replicas, which tasks a scale-down takes, the task history, removal;
* restart policies: condition, delay, attempts, window, and what arms them again;
* rollouts: both orders, parallelism, delay, monitoring, failure ratio, pause, continue, rollback;
* the scheduler: constraints, reservations, replicas per node, an even spread, its words;
* nodes that are lost, down after 15 s, back again, paused or drained;
* containers: shares of CPU, limits, throttling, memory and OOM kills, health checks, TERM and
  grace, exit codes; and the events that Docker tells of them.

What it does not:

* global services, jobs, service modes that change; networks, ports, volumes, secrets, configs;
* managers that are several: no quorum, no elections, no followers that lag; the API is the
  leader's;
* time that things take by themselves: the managers and the network need none, preparing a task
  takes the same time everywhere, an image is there or is not; nodes are heard at every quantum;
* checks of what is posted: a spec that Swarm would refuse may fail later, or be taken;
* placement preferences, platforms, and the scheduler's memory of nodes on which tasks keep failing;
* that Swarm keeps tasks where only their placement changed, and still fits: here they are replaced;
* that Swarm counts restart attempts per version of the whole spec: here it is per task template, so
  that a label, or a template that comes back, never starts the counting anew;
* races: what Swarm does in either order, it does here in one, the same every time;
* the kernel: CPU is shared in proportion to what each may use, a quantum at a time, and a node's
  own memory never runs out;
* engines that restart without their machine, and containers that are none of the Swarm's.
"""
