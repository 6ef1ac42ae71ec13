#include "shim.h"

int mr_errno(void)
{
	return rte_errno;
}

uint16_t mr_eth_rx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **rx_pkts, uint16_t nb_pkts)
{
	return rte_eth_rx_burst(port_id, queue_id, rx_pkts, nb_pkts);
}

uint16_t mr_eth_tx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **tx_pkts, uint16_t nb_pkts)
{
	return rte_eth_tx_burst(port_id, queue_id, tx_pkts, nb_pkts);
}

int mr_mempool_get_bulk(struct rte_mempool *pool, void **objects, unsigned count)
{
	return rte_mempool_get_bulk(pool, objects, count);
}

void mr_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned count)
{
	rte_mempool_put_bulk(pool, objects, count);
}

int mr_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

uint32_t mr_softrss(uint32_t *input, uint32_t words, const uint8_t *key)
{
	return rte_softrss(input, words, key);
}

unsigned mr_ring_dequeue_burst(struct rte_ring *ring, void **objects, unsigned count)
{
	return rte_ring_dequeue_burst(ring, objects, count, NULL);
}

unsigned mr_ring_enqueue_burst(struct rte_ring *ring, void *const *objects, unsigned count)
{
	return rte_ring_enqueue_burst(ring, objects, count, NULL);
}
