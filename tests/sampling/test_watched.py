from segment.sampling.watched import CHEAP, SHARE, TRAINED, watched_scans

PATCH = (128, 128, 128)


def test_all_scans_are_watched_while_they_are_cheap():
    few = CHEAP // 128**3
    assert watched_scans([1] * few, PATCH, patches=1, seed=0) == list(range(few))
    assert watched_scans([8] * 100, PATCH, patches=3000, seed=0) == list(range(100))


def test_many_large_scans_take_a_tenth_of_the_time_whatever_their_number():
    windows = [400 + 7 * n % 300 for n in range(1000)]
    chosen = watched_scans(windows, PATCH, patches=25_000, seed=0)
    spent = sum(windows[index] for index in chosen)
    assert 0.8 * SHARE * TRAINED * 25_000 < spent <= SHARE * TRAINED * 25_000
    assert chosen == sorted(set(chosen)) == watched_scans(windows, PATCH, patches=25_000, seed=0)
    assert chosen != watched_scans(windows, PATCH, patches=25_000, seed=1)
    assert len(watched_scans(windows, PATCH, patches=1, seed=0)) == 1
