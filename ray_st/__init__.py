"""Self-training for vision on Ray: a few labelled images, very many unlabelled ones, one cluster.

    teacher   learns from human labels                          (Ray Train)
    label     the teacher labels the pool                       (Ray Data, an actor pool)
    student   learns from human and pseudo labels jointly:      (Ray Train, two streams)
              L = (L_h + alpha * (mean_h / mean_p) * L_p) / (1 + alpha)
    sweep     tries several alphas                              (Ray Tune)

The method is that of "Rethinking Pre-training and Self-training" (Zoph et al., NeurIPS 2020).

Table of contents. It is the order in which to read, the way of one image, and the import rule: a
module imports from those above it only, which `lint-imports` checks.

    strict, config, recipe,         what a user wrote -> dataclasses, or one line of refusal
    secrets, flags
    nodes                           which nodes of a cluster
    standing, logs, metrics,        how far the work is, and who is told
    progress
    data                            URI -> batch: labels, rows, images, manifest, views, order, feed
    models                          pixels -> outputs
    tasks                           outputs -> labels, loss sums, metrics
    labeling                        the left wing: teacher, policy, the actor pool
    training                        the right wing: loss balance, step, streams, the Train loop
    cluster                         who gets which cores; the way to a cluster
    selftraining                    the whole loop, and the sweep
    planning                        how long a run takes, on what, and what it costs
    portable                        a model as one file that runs without this package
    report                          one HTML page for a run folder
    status                          how far a run is, from its folder alone
    verbs, cli                      the command line

`training.loss_balance` is the heart; `labeling.pool` and `training.loop` are the two edges to Ray.
"""
